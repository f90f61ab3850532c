"""Where viewpoint sets come from: each module turns one kind of source into `Views`."""
