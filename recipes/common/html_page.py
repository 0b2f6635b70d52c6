"""A page of HTML that needs nothing else."""

import html

_STYLE = (
    "body{font:16px system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em}"
    "th,td{padding:.2em .8em;text-align:left;vertical-align:top}svg,img{max-width:100%;height:auto}"
    "pre{overflow-x:auto}figure{margin:.5em}"
)


def html_page(title: str, body: str) -> str:
    """One page, readable in light and dark.

    Args:
        title: Plain text.
        body: Markup.
    """
    words = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{words}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<style>{_STYLE}</style><h1>{words}</h1>{body}</html>\n"
    )
