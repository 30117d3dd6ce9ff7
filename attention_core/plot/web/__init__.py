"""Pages that people explore in a browser: numbers, a static picture, and the script that plays."""
