"""Pruning a pretrained sentence encoder, and recovering what it said: text, masks, reconstruction, training and measures."""
