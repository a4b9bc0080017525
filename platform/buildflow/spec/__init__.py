"""What the user wrote: documents with positions, interpolation, and the models of each section."""
