"""A parsed HTML page: its elements, headings and text, and the files embedded in it."""

import base64
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """tags: (name, attributes) in order. text: what is read. headings: (level, text)."""

    def __init__(self, content):
        super().__init__()
        self.content, self.tags, self.headings, self._open = content, [], [], []
        self.text = ""
        self.feed(content)
        assert not self._open, "elements that are not closed"

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self._open.append(name)
        if re.fullmatch("h[1-6]", name):
            self.headings.append((int(name[1]), ""))

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, before = self.headings[-1]
            self.headings[-1] = level, before + data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    def files(self, name):
        """The content and the description of each element of that name."""
        return [
            (base64.b64decode(a["src"].split(",", 1)[1]), a.get("alt") or a.get("aria-label"))
            for a in self.all(name)
        ]
