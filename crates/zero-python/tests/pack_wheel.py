"""Packs the extension module that cargo has built, and the Python files, as a wheel for the tests.

`build-wheel` builds the wheel for a release with maturin. This script only saves the tests that second build.

    python pack_wheel.py PACKAGE_FOLDER EXTENSION_MODULE VERSION OUTPUT_FOLDER
"""

import sys
import sysconfig
import zipfile
from pathlib import Path

try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib


def main(package: Path, extension: Path, version: str, output: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag = f"cp39-abi3-{platform}"
    files = {f"zero_bus/{path.name}": path for path in (package / "python/zero_bus").iterdir() if path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed"}
    files["zero_bus/_native.abi3.so"] = extension
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\nRequires-Python: {project['requires-python']}\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: pack_wheel\nRoot-Is-Purelib: false\nTag: {tag}\n",
        "entry_points.txt": "[console_scripts]\n" + "".join(f"{name} = {target}\n" for name, target in project.get("scripts", {}).items()),
    }
    info = f"zero_bus-{version}.dist-info"
    output.mkdir(parents=True, exist_ok=True)
    # Stored, because compressing the extension would take longer than everything else.
    with zipfile.ZipFile(output / f"zero_bus-{version}-{tag}.whl", "w", zipfile.ZIP_STORED) as wheel:
        for name, path in sorted(files.items()):
            wheel.write(path, name)
        for name, text in texts.items():
            wheel.writestr(f"{info}/{name}", text)
        names = [*sorted(files), *(f"{info}/{name}" for name in texts), f"{info}/RECORD"]
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))


if __name__ == "__main__":
    folder, extension, version, output = sys.argv[1:]
    main(Path(folder), Path(extension), version, Path(output))
