"""A run on a disk that fills up under it; run by `test_full_disk` with that disk's folder, prints what happened."""

import contextlib
import json
import os
import sys
from pathlib import Path

from tests.contract.engine import tiny_models as tiny
from trainyard.core import errors
from trainyard.engine import durability, loading
from trainyard.engine.trainer import Trainer


def fill(disk: Path) -> None:
    handle = os.open(disk / "fill", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(handle, bytes(4096)):
            pass
    os.close(handle)


def refusal(work: object) -> str:
    try:
        if callable(work):
            work()
    except OSError as error:
        return os.strerror(error.errno or 0)
    except errors.TrainyardError as error:
        return error.code
    return "done"


def main(disk: Path, model: Path) -> None:
    trainer = Trainer(loading.load_decoder(model))
    run = trainer.open_run(tiny.run_spec("run_0", disk / "run"))
    told = {}
    for number in range(2):
        fill(disk)
        told[f"gradients {number}"] = refusal(lambda: tiny.train(trainer, [tiny.call("run_0", tiny.data((12,), 0))]))
        told[f"step {number}"] = refusal(lambda: trainer.optim_step("run_0"))
        told[f"write {number}"] = refusal(lambda: durability.write_state(run.snapshot()))
        told[f"files {number}"] = " ".join(sorted(file.name for file in (disk / "run").iterdir()))
        told[f"open {number}"] = refusal(lambda: trainer.open_run(tiny.run_spec("run_1", disk / "other")))
        (disk / "fill").unlink()
        durability.write_state(run.snapshot())
    told["steps"] = str(run.step)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
