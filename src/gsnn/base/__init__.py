"""What every room rests on: errors, files, progress, memory, torch's state, processes."""
