"""Tables, figures, captions and the page: results for people."""
