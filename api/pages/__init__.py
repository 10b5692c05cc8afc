"""Pages for a browser: one file each, with everything inside."""

from mmseek.api.pages.results import ResultSection, render_page, render_results

__all__ = ["ResultSection", "render_page", "render_results"]
