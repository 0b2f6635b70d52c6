"""The engine that compiles declared operations to a few passes over the images."""
