"""Infrastructure: what is declared against what is recorded, and how one becomes the other."""
