"""Images as other scanners and laboratories would have made them, and what becomes of a model on them."""
