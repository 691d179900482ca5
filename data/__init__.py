"""Images, their two-level names, and the stream of sessions made of them."""
