"""Bring one source distribution through pip's own index, proxy and certificates, without building.

`pip download` prepares the metadata of a source distribution, and that runs the package's build
code. Here pip only looks the file up and transfers it, so nothing of the package is executed. It
runs in a process of its own: `python -m georama.sources.sdist NAME FILE FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHUNK_BYTES = 1 << 18


def download(name: str, file: str, folder: Path) -> Path:
    """Transfer the file of a project that pip's configured indexes offer.

    Args:
        name: Project name.
        file: Exact file name, for example `pvcz-0.3.0.tar.gz`.
        folder: Where to put it; a half transferred file never gets the final name.

    Raises:
        LookupError: The indexes are reachable but do not offer the file, or none is reachable.
    """
    # pip has no public function for this step; checked with pip 23.2 and 26.3.
    from pip._internal.commands import create_command

    command = create_command("download")
    options, _ = command.parse_args(["--no-deps", "--no-cache-dir", "--retries", "2"])
    with command.main_context():
        session = command.get_default_session(options)  # type: ignore[attr-defined]
        finder = command._build_package_finder(options=options, session=session)  # type: ignore[attr-defined]
        links = [candidate.link for candidate in finder.find_all_candidates(name)]
        match = next((link for link in links if link.filename == file), None)
        if match is None:
            raise LookupError(
                f"pip's indexes offer {len(links)} files of {name}, {file} is not there"
            )
        target = folder / file
        part = folder / f"{file}.part"
        response = session.get(match.url_without_fragment, stream=True)
        response.raise_for_status()
        with part.open("wb") as out:
            for chunk in response.iter_content(CHUNK_BYTES):
                out.write(chunk)
        part.replace(target)
    return target


if __name__ == "__main__":
    try:
        download(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except Exception as error:  # the parent turns this line into its own sentence
        sys.stderr.write(f"ERROR: {error}\n")
        sys.exit(1)
