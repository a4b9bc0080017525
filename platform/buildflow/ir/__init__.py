"""What the compiler produces and everything else consumes: frozen values that round-trip through JSON."""
