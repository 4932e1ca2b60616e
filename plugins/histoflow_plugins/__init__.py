"""The built-in plugins, one module each, registered by entry points like everyone else's."""
