"""What cloud-init's own code makes of config drives: run as a program, with the files of each in a folder.

    cloud_init_reader.py SCRATCH FOLDER LAYOUT [FOLDER LAYOUT …]

It reads the files with the data source of that layout, as it would on a guest, and prints what it understood of each
as JSON. Of this machine nothing is looked at, and nothing is written but in SCRATCH.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cloudinit import sources, ssh_util, user_data, util
from cloudinit.helpers import Paths
from cloudinit.sources import DataSourceConfigDrive, DataSourceNoCloud


def read(folder: str, layout: str, scratch: str) -> dict[str, Any]:
    """What the guest would be set up with."""
    paths = Paths({"cloud_dir": scratch, "run_dir": scratch})
    util.get_cmdline = lambda: ""
    if layout == "nocloud":
        DataSourceNoCloud.dmi.read_dmi_data = lambda _name: None
        util.mount_cb = lambda device, callback, data: callback(device, data)
        source = DataSourceNoCloud.DataSourceNoCloud({}, None, paths)
        source._get_devices = lambda _label: [folder]
    else:
        source = DataSourceConfigDrive.DataSourceConfigDrive({}, None, paths)
        source.seed_dir = folder
    if not source._get_data():
        raise SystemExit("cloud-init does not take the drive for one of its own")
    keys = [ssh_util.AuthKeyLineParser().parse(key) for key in source.get_public_ssh_keys()]
    processed = user_data.UserDataProcessor(paths).process(source.get_userdata_raw())
    vendor = source.vendordata_raw
    return {
        "instance_id": str(source.get_instance_id()),
        "hostname": source.metadata["local-hostname" if layout == "nocloud" else "hostname"],
        "meta": source.metadata["meta"],
        "keys": [[key.keytype, key.base64, key.comment] for key in keys if key.valid()],
        "parts": [
            [part.get_content_type(), part.get_payload(decode=True).hex()]
            for part in processed.walk()
            if not part.is_multipart()
        ],
        "vendor_data": util.decode_binary(vendor or b"") if layout == "nocloud" else sources.convert_vendordata(vendor),
        "network": source.network_config if layout == "nocloud" else source.network_json,
    }


if __name__ == "__main__":
    scratch, *drives = sys.argv[1:]
    Path(scratch).mkdir(exist_ok=True)
    print(json.dumps([read(folder, layout, scratch) for folder, layout in zip(drives[::2], drives[1::2], strict=True)]))
