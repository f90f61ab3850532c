"""three.js, as trimesh's own viewer carries it."""

import io
import zipfile
from functools import cache

from trimesh import resources

from recon.errors import ReconError

FILE = "viewer.html.template"
OWN_SCRIPT = "var camera,controls,scene,renderer"
"""Where trimesh's viewer begins; the library before it defines `THREE`."""


@cache
def threejs() -> str:
    """The library as a script that defines `THREE`, to stand inside a <script> element.

    Raises:
        ReconError: the installed trimesh carries it in another form.
    """
    with zipfile.ZipFile(io.BytesIO(resources.get_bytes("templates/viewer.zip"))) as archive:
        text = archive.read(FILE).decode() if FILE in archive.namelist() else ""
    script = text.partition("<script>")[2].partition("</script>")[0]
    library, marker, _ = script.partition(OWN_SCRIPT)
    if not marker or "THREE" not in library:
        raise ReconError("this version of trimesh has no three.js viewer that recon knows; 4.2 to 5 have")
    return library
