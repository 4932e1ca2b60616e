"""What a reader of a page would stumble over, as a browser that has drawn it can tell."""

from __future__ import annotations

from typing import Any

from browser import Browser

FAULTS = """
(() => {
  const faults = [];
  const told = element => {
    const text = (element.textContent || element.alt || "").trim().replace(/\\s+/g, " ").slice(0, 40);
    return `<${element.localName}> ${JSON.stringify(text)}`;
  };

  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`overflow: ${wide} px of content in a window of ${innerWidth}`);

  for (const image of document.images) {
    if (!image.complete || image.naturalWidth === 0) faults.push(`broken image: ${told(image)}`);
    if (!(image.getAttribute("alt") || "").trim()) faults.push(`image without alt: ${image.src.slice(0, 40)}`);
  }

  const parsed = colour => {
    const numbers = colour.match(/[\\d.]+/g).map(Number);
    if (!colour.startsWith("rgb")) faults.push(`a colour that is not understood: ${colour}`);
    return numbers.length === 3 ? [...numbers, 1] : numbers;
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const behind = element => element
    ? over(parsed(getComputedStyle(element).backgroundColor), behind(element.parentElement))
    : canvas;
  const luminance = colour => {
    const [r, g, b] = colour.slice(0, 3).map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const holders = new Set();
  while (texts.nextNode()) if (texts.currentNode.data.trim()) holders.add(texts.currentNode.parentElement);
  let measured = 0;
  for (const element of holders) {
    const style = getComputedStyle(element);
    if (!element.getClientRects().length || style.visibility !== "visible") continue;
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const ground = behind(element);
    const found = contrast(over(parsed(style.color), ground), ground);
    if (found < needed) faults.push(`contrast: ${found.toFixed(2)} where ${needed} is needed, ${told(element)}`);
    measured += 1;
  }
  return {faults, width: innerWidth, images: document.images.length, texts: measured};
})()
"""


def look(browser: Browser) -> dict[str, Any]:
    """The faults of the open page, and how much was looked at."""
    found: dict[str, Any] = browser.value(FAULTS)
    return found
