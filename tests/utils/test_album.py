"""Albums come back as they were written."""

import json

from utils.album import Exemplar, album_name, album_of, album_text


def test_an_album_comes_back():
    album = (Exemplar("Käfer <b>", "/9j/", (("Käfer <b>", 99.1), ("other", 0.9)), (("other", 100.0),)),)
    assert album_of(album_text(album)) == album and json.loads(album_text(album))[0]["name"] == "Käfer <b>"
    assert album_of(album_text(())) == () and album_name(3) == "exemplars_3.json"
