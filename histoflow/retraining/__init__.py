"""A challenger meets the champion on the same sealed test images; a gate decides, once."""
