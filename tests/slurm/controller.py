"""snakemake as most tests start it: while jobs run it asks Slurm every two seconds.

The plugin waits ten seconds longer each time that no job has ended, which suits jobs of minutes. Nothing else differs.
"""

import asyncio

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def wait_two_seconds(self) -> None:
    await asyncio.sleep(2)


if __name__ == "__main__":
    RemoteExecutor.sleep = wait_two_seconds
    main()
