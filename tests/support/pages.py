"""What must hold of every page: its pictures are XML, its tags are closed, and it refers to nothing outside itself."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

_NEVER_CLOSED = {"meta", "br", "img", "!doctype"}
_OUTSIDE = re.compile(
    r"""(?:src|href|data|action|poster)\s*=|url\s*\(|@import|<(?:script|link|iframe|img|object)\b""", re.I
)


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in _NEVER_CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page):
    """Return the page's pictures, as XML."""
    tags = _Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    assert not _OUTSIDE.search(re.sub(r"<pre>.*?</pre>", "", page, flags=re.S))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", page)
    pictures = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.S)]
    assert pictures
    for picture in pictures:
        wide, high = float(picture.get("width")), float(picture.get("height"))
        for shape in picture.iter():
            if shape.tag.endswith("rect"):
                assert float(shape.get("x", 0)) >= -0.2 and float(shape.get("y", 0)) >= -0.2
                assert float(shape.get("x", 0)) + float(shape.get("width")) <= wide + 0.2
                assert float(shape.get("y", 0)) + float(shape.get("height")) <= high + 0.2
    return pictures
