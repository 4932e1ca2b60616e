"""A model in one file: written with its checks, read without unpickling anything."""
