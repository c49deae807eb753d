"""Looking at results: pictures, pages and exported volumes."""
