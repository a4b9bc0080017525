"""The example: upload a picture, and see what a classifier makes of it."""
