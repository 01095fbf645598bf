"""carrier.pyz: the modules in `carrier/` as one file that Python runs, the same bytes wherever it is made."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

CARRIER = "carrier.pyz"
PACKAGE = "samerun_carrier"
_MAIN = f"""\
import sys
from {PACKAGE}.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the archive must not depend on when it was made


def carrier_bytes() -> bytes:
    """The program. It holds no address, no path of this machine and no secret; `Store.config` says where to go."""
    source = Path(__file__).parent / "carrier"
    modules = {f"{PACKAGE}/{path.name}": path.read_bytes() for path in source.glob("*.py")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted({**modules, "__main__.py": _MAIN.encode()}.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, data)
    return buffer.getvalue()
