"""Verifies each *.eml of a folder with python3-dkim; prints "NAME pass" or "NAME fail WHY".

Arguments: the folder, the record's DNS name, the record's text.
"""

import pathlib
import sys

import dkim

folder, name, record = sys.argv[1:]


def dns(asked, timeout=5):
    asked = asked.decode() if isinstance(asked, bytes) else asked
    return record.encode() if asked.rstrip(".") == name else None


for path in sorted(pathlib.Path(folder).glob("*.eml")):
    try:
        verified = dkim.DKIM(path.read_bytes()).verify(dnsfunc=dns)
        print(path.stem, "pass" if verified else "fail not verified")
    except dkim.DKIMException as error:
        print(path.stem, "fail", error)
