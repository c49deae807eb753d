"""Laws of the server: only for who knows the address, only from this machine, every fault a message, bounded memory."""

import http.client
import json
import re
import socket
import threading
import tracemalloc
from contextlib import contextmanager
from urllib.parse import urlencode

import nibabel
import numpy as np
import pytest
from helpers.made_cohort import description, key_of, publish

from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.store import Layer, Lossless, Store
from softlabels.view.entries import TargetEntries
from softlabels.view.viewer import serve
from softlabels.view.viewer.case_view import CaseView
from softlabels.view.viewer.serve import Server, Viewer, _Recent

SHAPE = (9, 20, 31)
AFFINE = np.array([[0.2, 0.1, -0.9, 5.0], [0.0, 1.1, 0.1, -7.0], [2.9, 0.0, 0.06, 11.0], [0, 0, 0, 1]])


def oblique(shape):
    axes = np.linalg.qr(AFFINE[:3, :3])[0] * [3.0, 1.0, 0.8]
    return Grid(shape, (3.0, 1.0, 0.8), np.block([[axes, AFFINE[:3, 3:]], [0, 0, 0, 1]]))


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 8:12, 10:20] = 1
    layers = [
        Layer("image", rng.normal(size=(2, *SHAPE)).astype(np.float32), ["T1", "T2"], Lossless()),
        Layer("labels", labels, encoding=Lossless(), role="labels"),
    ]
    store = Store(tmp_path_factory.mktemp("store"))
    publish(store, key_of("served"), layers, oblique(SHAPE))
    return CaseView(PreparedCase("served", store.find(key_of("served"))))


@contextmanager
def serving(view):
    with Server(Viewer([view])) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(view):
    with serving(view) as server:
        yield server


def get(server, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def ask(server, name, **options):
    return get(server, f"/{server.token}/{name}?{urlencode(options)}")


LAYER = {"case": 0, "layer": "image", "channel": 1, "field": "whole", "voxels": 10**6}


def test_only_who_has_the_token_is_answered(server):
    assert len(server.token) >= 20
    for path in ("/", "/x/", f"/{server.token[:-1]}/", f"/{server.token}x/viewer.js", "/viewer.js"):
        response, content = get(server, path)
        assert response.status == 404
        assert b"served" not in content
    assert get(server, f"/{server.token}/")[0].status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_page_of_another_host_cannot_reach_it(server, host):
    assert get(server, f"/{server.token}/", host=host or " ")[0].status == 404


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:9"])
def test_a_tunnel_may_begin_at_another_port(server, host):
    assert get(server, f"/{server.token}/", host=host)[0].status == 200


def test_it_listens_on_this_machine_only_and_says_how_to_reach_it(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert re.fullmatch(rf"ssh -N -L {server.server_port}:127\.0\.0\.1:{server.server_port} \S+@\S+", server.tunnel)


def test_nothing_is_kept_by_the_browser_nor_loaded_from_elsewhere(server):
    for name in ("", "viewer.js", "niivue.umd.js"):
        response, _ = ask(server, name)
        assert response.headers["Cache-Control"] == "no-store"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert not re.search(r"https?:|\*|unsafe-eval", policy)
    page = ask(server, "")[1].decode()
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_a_layer_is_the_entrys_values_at_their_place(view, server):
    response, content = ask(server, "layer", **LAYER)
    assert response.status == 200
    image = nibabel.Nifti1Image.from_bytes(content)
    expected = view.case.entry.read("image")[1]
    note = json.loads(bytes(image.header["descrip"]).rstrip(b"\0"))
    assert note["error"] < 1e-4
    np.testing.assert_allclose(image.get_fdata().T, expected, atol=2 * note["error"])
    np.testing.assert_allclose(image.affine, view.grid.to_nifti_affine(), atol=1e-5)


@pytest.mark.parametrize("field", ["labels", "4,9,15"])
def test_a_part_lies_where_it_was_cut_out(view, server, field):
    content = ask(server, "layer", **LAYER | {"field": field, "voxels": 300})[1]
    image = nibabel.Nifti1Image.from_bytes(content)
    assert np.prod(image.shape) <= 300
    inverse = np.linalg.inv(view.grid.to_nifti_affine())
    for voxel in ((0, 0, 0), tuple(n - 1 for n in image.shape)):
        x, y, z = np.rint(nibabel.affines.apply_affine(inverse @ image.affine, voxel)).astype(int)
        assert image.get_fdata()[voxel] == pytest.approx(view.case.entry.read("image")[1, z, y, x], abs=1e-3)


def test_values_are_exact(view, server):
    picks = json.dumps([["image", 0], ["image", 1], ["labels", 0]])
    response, content = ask(server, "values", case=0, voxel="4,9,15", picks=picks)
    assert response.status == 200
    image, label = view.case.entry.read("image")[:, 4, 9, 15], view.case.entry.read("labels")[4, 9, 15]
    assert json.loads(content) == [float(image[0]), float(image[1]), float(label)]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("layer", {"layer": "x"}, "got layer 'x', expected one of image, labels"),
        ("layer", {"channel": 2}, "got channel 2, expected 0 to 1"),
        ("layer", {"channel": "a"}, "the request is not understood"),
        ("layer", {"case": 1}, "case: got number 1, expected 0 to 0"),
        ("layer", {"field": "9,0,0"}, r"got \(9, 0, 0\), expected one inside the grid"),
        ("layer", {"field": "elsewhere"}, "the request is not understood"),
        ("layer", {"voxels": -1}, "got -1, expected at least 1"),
        ("values", {"voxel": "0,0,31", "picks": "[]"}, "expected one inside the grid"),
        ("values", {"voxel": "0,0,0", "picks": "{}"}, "expected a list"),
        ("values", {"voxel": "0,0,0", "picks": json.dumps([["image", 0]] * 101)}, "at most 100"),
        ("values", {"picks": "[]"}, "the request lacks 'voxel'"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(server, name, change, message):
    response, content = ask(server, name, **(LAYER if name == "layer" else {"case": 0}) | change)
    assert response.status == 400
    assert re.search(message, json.loads(content)["error"])


@pytest.mark.parametrize("name", ["page.html.j2", "../page.py", "%2e%2e/page.py", "x"])
def test_no_other_file_is_given(server, name):
    assert get(server, f"/{server.token}/{name}")[0].status == 404


def test_damage_in_the_store_is_told(tmp_path):
    store = Store(tmp_path / "store")
    layers = [
        Layer("image", np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32), ["T1"], Lossless()),
        Layer("labels", np.zeros(SHAPE, np.uint8), encoding=Lossless(), role="labels"),
    ]
    publish(store, key_of("damaged"), layers, oblique(SHAPE))
    entry = store.find(key_of("damaged"))
    view = CaseView(PreparedCase("damaged", entry))
    (shard,) = entry.zarr_path.glob("**/c/0/0/0/0")
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    with serving(view) as server:
        response, content = ask(server, "layer", **LAYER | {"channel": 0})
    assert response.status == 500
    assert "is damaged" in json.loads(content)["error"]


def test_a_taken_port_is_refused_with_the_remedy(view):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be used .* Name another"):
            Server(Viewer([view]), port)


def test_answers_are_kept_up_to_a_number_of_bytes():
    recent = _Recent(10)
    recent.put(("a",), b"1234")
    recent.put(("b",), b"5678")
    assert recent.get(("a",)) == b"1234"
    recent.put(("c",), b"90ab")
    assert recent.get(("b",)) is None, "the one asked for longest ago goes"
    assert (recent.get(("a",)), recent.get(("c",))) == (b"1234", b"90ab")
    recent.put(("d",), b"x" * 11)
    assert recent.get(("d",)) is None


def test_a_large_case_with_many_classes_takes_little_memory(tmp_path, monkeypatch):
    # All of its soft labels together have 315 MB.
    shape, n_classes = (60, 64, 512), 40
    labels = np.zeros(shape, np.uint8)
    labels[10:50, 20:50, 100:400] = 1 + np.arange(300, dtype=np.uint8) // 8
    classes = [LabelClass(f"organ {i}", (i,)) for i in range(n_classes)]
    store, grid = Store(tmp_path / "store"), Grid(shape, (1.0, 0.7, 0.7))
    image = np.zeros((1, *shape), np.float32)
    publish(
        store,
        key_of("large"),
        [Layer("image", image, ["CT"], Lossless()), Layer("labels", labels, encoding=Lossless(), role="labels")],
        grid,
    )
    case = PreparedCase("large", store.find(key_of("large")))
    described = description("label_smoothing", "standard", classes, Blend("label_smoothing", 0.1))
    target = TargetEntries(CaseTarget(case, "smooth", described, None))
    viewer = Viewer([CaseView(case, {"smooth": target})])
    monkeypatch.setattr(serve, "MAX_VOXELS", 10**6)
    tracemalloc.start()
    for layer, channel in (("image", 0), ("smooth/soft", 3), ("smooth/entropy", 0)):
        viewer.layer(0, layer, channel, "whole", 10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_classes * 4 * np.prod(shape) / 3
