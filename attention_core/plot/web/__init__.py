"""Interactive pages for browsers: their numbers, their script, and a static picture."""
