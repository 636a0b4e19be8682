"""Files that name other files: none of those is opened, and the file is called what it is."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import numpy as np
import pytest

from ipcv.errors import VideoError
from ipcv.media.video.container import open_container
from ipcv.media.video.probe import probe


@pytest.fixture(scope="module")
def server():
    """A server that only counts who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_error(404)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    seen = []
    found = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}", seen
    found.shutdown()
    found.server_close()


LIVE = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n"  # it has no end, as live ones
WHOLE = LIVE + "#EXT-X-ENDLIST\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\na=control:{}\r\n"
DASH = '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>\n'


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list"])
@pytest.mark.parametrize("text", [LIVE, WHOLE, MASTER, CONCAT, SDP, DASH, "\n" + LIVE, "\ufeff" + WHOLE])
def test_a_playlist_is_refused_and_nothing_that_it_names_is_opened(text, name, server, tmp_path):
    address, seen = server
    (tmp_path / "other.txt").write_text("secret")
    for target in (f"{address}/a.ts", "other.txt", str(tmp_path / "other.txt"), f"crypto:{address}/a.ts"):
        path = tmp_path / name
        path.write_text(text.format(target))
        with pytest.raises(VideoError, match="is a playlist, which only names other files or addresses"):
            probe(path)
    assert seen == []


def test_a_pattern_in_a_name_opens_no_other_file(tmp_path):
    with av.open(str(tmp_path / "clip1.png"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")):
            container.mux(packet)
    path = tmp_path / "clip%d.png"
    path.write_bytes(bytes(range(100)))
    with pytest.raises(VideoError, match="is not a video file"):
        open_container(path)


def test_ordinary_files_still_open(clip, tmp_path):
    assert probe(clip).facts.frames
    for name in ("a%d.mp4", "file:x.mp4", "concat:x|y.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
        assert probe(tmp_path / name).facts.frames == probe(clip).facts.frames
