"""Makes self-contained HTML pages from Jinja2 templates, and SVG charts that follow a light or dark page."""
