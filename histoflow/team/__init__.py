"""A run trained by several processes: ``lead`` is the side of who asks for it, ``member`` that of each."""
