"""Pictures of digits, clothes and simple shapes: the usual small image data sets."""
