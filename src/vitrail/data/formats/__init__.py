"""Image files of every format that is read: recognised, bounded, decoded."""
