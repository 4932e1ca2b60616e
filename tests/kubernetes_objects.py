"""Kubernetes objects held against the models that its own client is generated with."""

from __future__ import annotations

import re
from typing import Any


def unknown_keys(data: Any, model: str) -> list[str]:
    """Keys that Kubernetes does not know, such as ``V1Container.resource``."""
    from kubernetes_asyncio.client import models  # not when the tests are collected: it takes long

    if container := re.fullmatch(r"(?:list\[|dict\(str, )(.*)[\])]", model):
        children = data if isinstance(data, list) else data.values()
        return [key for child in children for key in unknown_keys(child, container[1])]
    described = getattr(models, model, None)
    if described is None:  # a plain value
        return []
    types = {key: described.openapi_types[field] for field, key in described.attribute_map.items()}
    strange = [f"{model}.{key}" for key in data if key not in types]
    known = [key for key in data if key in types]
    return strange + [key for name in known for key in unknown_keys(data[name], types[name])]
