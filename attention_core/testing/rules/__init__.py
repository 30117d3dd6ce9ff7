"""The rules for components, one module for each kind of rule."""
