"""Stars: clusters found in a catalogue of positions, parallaxes and proper motions."""
