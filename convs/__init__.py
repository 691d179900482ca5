"""Backbones by name, and what timm and open_clip lack: parallel adapters in any of their blocks, cosine heads."""
