"""Verified reading of image files: every byte is read, every claim of the header is checked before it is believed."""
