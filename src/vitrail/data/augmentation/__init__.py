"""How training images are varied: operations on batches, each image by its own draw."""
