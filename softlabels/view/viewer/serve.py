"""The viewer's server: one page and its layers, made on demand, for this machine's user only.

It listens on 127.0.0.1. Every address begins with a random token, so that other users of the machine cannot guess it,
and requests with another Host than this machine are refused, so that no web page can reach it by a name of its own.
"""

from __future__ import annotations

import getpass
import json
import math
import platform
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from softlabels.errors import InputError, SoftLabelsError, StoreError
from softlabels.view.viewer.case_view import CaseView
from softlabels.view.viewer.fields import Field, detail_field, label_field, whole_field
from softlabels.view.viewer.nifti import nifti_bytes
from softlabels.view.viewer.page import CONTENT_POLICY, asset, served_page

#: Never more voxels than this in one answer, whatever a page asks for.
MAX_VOXELS = 2**24
#: Bytes of answers that are kept to be given again.
CACHE_BYTES = 256 * 2**20
#: Bits of a voxel: colour scales may be narrowed far, and the values under the cursor are exact in any case.
BITS = 16
#: Layers in one question for values, at most.
_MAX_PICKS = 100
_JSON, _NIFTI, _SCRIPT, _HTML = "application/json", "application/octet-stream", "text/javascript", "text/html"


class Viewer:
    """What the server answers, apart from HTTP.

    Parameters
    ----------
    cases : sequence of CaseView
        One, or two to compare.

    Notes
    -----
    Memory: one channel at a time is computed (see `CaseView.values`), and answers of at most `CACHE_BYTES` are kept.
    """

    def __init__(self, cases: Sequence[CaseView]) -> None:
        self.cases = list(cases)
        self._answers = _Recent(CACHE_BYTES)
        self._computing = threading.Lock()

    def page(self) -> str:
        """Return the page that shows the cases."""
        return served_page([case.describe() for case in self.cases])

    def layer(self, case: int, layer: str, channel: int, field: str, max_voxels: int) -> bytes:
        """Return a channel as NIfTI.

        Parameters
        ----------
        case : int
            Place of the case.
        layer : str
        channel : int
        field : str
            "whole", "labels" (the box around them), or a voxel "z,y,x" (the box around it, every voxel drawn).
        max_voxels : int

        Raises
        ------
        InputError
            If anything of this does not exist.
        FormatError
            If a byte that was read is not what was published.
        """
        view = self._case(case)
        chosen = field_of(view, field, min(max_voxels, MAX_VOXELS))
        question = (case, layer, channel, chosen)
        with self._computing:
            answer = self._answers.get(question)
            if answer is None:
                drawn, scale = view.drawn(layer, channel, chosen, BITS)
                answer = nifti_bytes(drawn, chosen.grid(view.grid), scale, chosen.step)
                self._answers.put(question, answer)
        return answer

    def values(self, case: int, voxel: str, picks: str) -> list[float | str]:
        """Return the exact values of one voxel: numbers, and "inf" or "nan" where it is not finite.

        Parameters
        ----------
        case : int
        voxel : str
            "z,y,x".
        picks : str
            JSON: a list of pairs of a layer's id and a channel.
        """
        view, (z, y, x) = self._case(case), _voxel(voxel)
        if any(not 0 <= c < n for c, n in zip((z, y, x), view.grid.shape, strict=True)):
            raise InputError(f"voxel: got {voxel}, expected one inside the grid {view.grid.shape} (z, y, x)")
        asked = _picks(picks)
        found = [view.value(layer, channel, (z, y, x)) for layer, channel in asked]
        return [value if math.isfinite(value) else str(abs(value)) for value in found]

    def _case(self, number: int) -> CaseView:
        if not 0 <= number < len(self.cases):
            raise InputError(f"case: got number {number}, expected 0 to {len(self.cases) - 1}")
        return self.cases[number]


def field_of(view: CaseView, name: str, max_voxels: int) -> Field:
    """Return the field that a page names: "whole", "labels" or a voxel "z,y,x"; see `Viewer.layer`."""
    shape, spacing = view.grid.shape, view.grid.spacing
    if name == "whole":
        return whole_field(shape, spacing, max_voxels)
    if name == "labels":
        return label_field(view.foreground, shape, spacing, max_voxels)
    return detail_field(_voxel(name), shape, spacing, max_voxels)


class Server(ThreadingHTTPServer):
    """The server of a viewer, on 127.0.0.1.

    Parameters
    ----------
    viewer : Viewer
    port : int
        0 takes any free one.
    """

    daemon_threads = True

    def __init__(self, viewer: Viewer, port: int = 0) -> None:
        self.viewer, self.token = viewer, secrets.token_urlsafe(16)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"view: port {port} cannot be used ({error}). Name another, or leave --port out") from None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    @property
    def tunnel(self) -> str:
        """The command that makes the page reachable at the same address on another machine."""
        port = self.server_port
        return f"ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{platform.node()}"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET below the token."""

    server: Server
    server_version, sys_version = "softlabels", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request; what is wrong with it, or with the store, becomes a message that the page shows."""
        parts = urlsplit(self.path)
        token, _, name = parts.path.removeprefix("/").partition("/")
        if not self._is_local() or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._send(HTTPStatus.NOT_FOUND, b"Not found. Use the whole address that was printed.", "text/plain")
            return
        try:
            options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            kind, content = self._answer(name, options)
        except SoftLabelsError as error:
            is_ours = isinstance(error, StoreError)
            self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR if is_ours else HTTPStatus.BAD_REQUEST, str(error))
        except KeyError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, f"the request lacks {error}")
        except ValueError as error:
            self._send_error(HTTPStatus.BAD_REQUEST, f"the request is not understood: {error}")
        except FileNotFoundError:
            self._send(HTTPStatus.NOT_FOUND, b"Not found.", "text/plain")
        else:
            self._send(HTTPStatus.OK, content, kind)

    def _answer(self, name: str, options: dict[str, str]) -> tuple[str, bytes]:
        viewer = self.server.viewer
        if name == "":
            return _HTML, viewer.page().encode()
        if name == "layer":
            where = (int(options["case"]), options["layer"], int(options["channel"]))
            return _NIFTI, viewer.layer(*where, options["field"], int(options["voxels"]))
        if name == "values":
            found = viewer.values(int(options["case"]), options["voxel"], options["picks"])
            return _JSON, json.dumps(found).encode()
        return _SCRIPT, asset(name)

    def _is_local(self) -> bool:
        """Whether the browser asked for this machine, by any port: a tunnel may begin at another."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        return host in ("127.0.0.1", "localhost", "[::1]")

    def _send_error(self, status: HTTPStatus, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), _JSON)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind if kind == _NIFTI else f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", CONTENT_POLICY)
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            # The page was closed, or asks for something else by now.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the page shows what went wrong."""


class _Recent:
    """The answers given last, up to a number of bytes. Not for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._answers: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def get(self, question: tuple[object, ...]) -> bytes | None:
        if question in self._answers:
            self._answers.move_to_end(question)
        return self._answers.get(question)

    def put(self, question: tuple[object, ...], answer: bytes) -> None:
        self._answers[question] = answer
        self._n_bytes += len(answer)
        while self._n_bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self._n_bytes -= len(oldest)


def _voxel(text: str) -> tuple[int, int, int]:
    """Return the voxel "z,y,x"; ValueError if it is none."""
    z, y, x = (int(part) for part in text.split(","))
    return z, y, x


def _picks(text: str) -> list[tuple[str, int]]:
    """Return pairs of layer and channel from JSON; ValueError if it is anything else."""
    content = json.loads(text)
    if not isinstance(content, list) or len(content) > _MAX_PICKS:
        raise ValueError(f"picks: expected a list of at most {_MAX_PICKS} pairs")
    return [(str(layer), int(channel)) for layer, channel in content]
