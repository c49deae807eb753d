"""Where the workflow is installed, and the files that let `snakemake` run it in a project's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import softlabels
from softlabels._shared.files import link_atomically
from softlabels.errors import InputError

_SNAKEFILE = '''\
# Written by `softlabels init`: runs the workflow of the installed softlabels. Rules of your own can follow.
from softlabels.monitor.deployment import workflow_folder


include: workflow_folder() / "Snakefile"


rule project:
    """Everything that config.yaml asks for: the default target, since that of an included file is none."""
    localrule: True
    input:
        rules.all.input,
'''


def package_folder() -> Path:
    """Return the folder of the softlabels package that is imported, symbolic links resolved."""
    return Path(softlabels.__file__).resolve().parent


def workflow_folder() -> Path:
    """Return the folder of Snakefile, workflow/, envs/ and config.yaml: in an installed wheel, or the checkout.

    Both have the same layout, so paths from one file of the workflow to another hold in both.

    Raises
    ------
    InputError
        If softlabels was installed without its workflow.

    Examples
    --------
    >>> (workflow_folder() / "workflow" / "rules" / "common.smk").is_file()
    True
    """
    package = package_folder()
    candidates = (package / "workflow", package.parent)
    for folder in candidates:
        if (folder / "Snakefile").is_file():
            return folder
    raise InputError(
        f"workflow: got no Snakefile in {' or '.join(map(str, candidates))}, expected the one that every softlabels "
        "wheel and checkout has. Reinstall softlabels"
    )


def project_files() -> dict[str, str]:
    """Return the files that make a folder with config.yaml and cases.tsv a Snakemake project: path to content.

    `profiles/default/config.yaml` is the profile that a plain `snakemake` reads by itself.
    """
    default = workflow_folder() / "workflow" / "profiles" / "default" / "config.yaml"
    return {"Snakefile": _SNAKEFILE, "profiles/default/config.yaml": default.read_text(encoding="utf-8")}


def isolated_package(folder: Path) -> Path:
    """Make a folder that holds nothing but a link to the package, for a job's PYTHONPATH; return it.

    A job in a software environment of its own (conda, container) has the dependencies but not softlabels. The folder
    that softlabels is installed in would bring the caller's numpy along, built for another Python.
    """
    folder = folder.absolute()
    link, package = folder / "softlabels", package_folder()
    if not (link.is_symlink() and link.resolve() == package):
        if link.is_dir() and not link.is_symlink():
            # A project that was copied with its links followed has a copy of the package here.
            shutil.rmtree(link)
        link_atomically(link, package)
    return folder
