"""An honest loopback Kaggle: it speaks the wire to the unmodified client and really runs what is pushed.

    from tests.emulators.kaggle import KaggleEmulator

    with KaggleEmulator(tmp_path / "kaggle", layout="old", queue_seconds=0.5) as kaggle:
        kaggle.endpoint                                   # http://127.0.0.1:PORT; RPCs at /v1/... and /api/v1/...
        kaggle.env                                        # SAMERUN_KAGGLE_ENDPOINT, KAGGLE_USERNAME, KAGGLE_KEY
        kaggle.cli_env(tmp_path / "home")                 # a whole environment for the real `kaggle` command
        kaggle.accounts.add("bob", phone_verified=False)  # alice is there from the start
        kaggle.datasets.add("alice/coral-reef", folder)   # READY at once, without an upload
        kaggle.competitions.add("reef-2026", folder)
        kaggle.faults.add("429", on="SaveKernel", times=2, retry_after=1)
        kaggle.kernels.wait("alice/my-kernel")            # until its latest session has ended
        kaggle.kernels["alice/my-kernel"].latest.session  # .status .log .outputs() .conditions .processes()
        kaggle.kernels.lose("alice/my-kernel")            # its machine is gone; or .cancel_on_website, .expire
        kaggle.counters.calls["SaveKernel"], kaggle.processes_alive, kaggle.snapshot()

`python -m tests.emulators.kaggle`, from the repository's root, starts one for a person; `settings`, `faults` and
`wire.admin` say what can be set, also from another process. The real `kagglesdk` reaches it by setting the endpoint of
its HTTP client, the real command by taking it for its proxy (`cli_env`).

A kernel runs in a process of its own, below a root of its own with a literal /kaggle (namespaces for users, mounts,
processes and, with internet off, the network), else with KAGGLE_INPUT_ROOT, KAGGLE_WORKING_ROOT and KAGGLE_TEMP_ROOT
set; `session.conditions` says which. When the emulator ends, in whatever way, every process of every kernel ends.

What it does not show, and no test on it can:

- Kaggle's image: a kernel runs with this machine's Python, packages, CPU and GPU, whatever accelerator was asked for;
  that is only recorded. Paths of this machine beside /kaggle and the temporary folder can be read.
- Real quotas, speeds, sizes, prices, queues, or a container's limits of memory and disk.
- Models, notebooks as papermill runs them (cells are run as one script), R, secrets, TPUs, interactive sessions.
- How Kaggle's servers behave where nobody could look: nothing here was checked against the real service. What it says
  and does comes from the client's source, from public issues and from public code; where these are silent, a choice was
  made and is a setting (`Settings`), or is called an assumption.
- It is no sandbox against hostile code.
"""

from tests.emulators.kaggle.emulator import KaggleEmulator
from tests.emulators.kaggle.settings import Settings

__all__ = ["KaggleEmulator", "Settings"]
