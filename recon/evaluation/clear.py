"""Room for a validation: what an earlier one left in its folder goes, and nothing of anybody else's."""

import json
from contextlib import suppress

from recon.evaluation.gallery import remove_pictures
from recon.files import writing
from recon.run_folder import MEASURED, ValidationFolder


def clear(folder: ValidationFolder) -> None:
    """Remove the files that `recon validate` wrote to `folder`, those of sets that are measured no more among them.

    A set is known by its NAME.json, which names it and has a row for every view; other JSON stays.

    Raises:
        ReconError: a file cannot be removed.
    """
    for name in filter(lambda name: _is_ours(folder, name), folder.sets()):
        with writing(folder.path):
            for path in (folder.metrics(name), folder.sheet(name)):
                path.unlink(missing_ok=True)
            if folder.gallery(name).is_dir():
                remove_pictures(folder.gallery(name))
                with suppress(OSError):  # where somebody keeps something there it stays
                    folder.gallery(name).rmdir()
    for path in map(folder.file, MEASURED):
        with writing(path):
            path.unlink(missing_ok=True)


def _is_ours(folder: ValidationFolder, name: str) -> bool:
    try:
        content = json.loads(folder.metrics(name).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("set") == name and "per_view" in content
