"""Makes the vectors of this folder from the specifications alone: RFC 6962, RFC 8032 and C2SP, with nothing of Sammati's.

Usage: make.py {folder}. Writes the files there. CC0 1.0: anybody may use this for anything.
"""

import base64
import hashlib
import pathlib
import sys

ORIGIN = "log.example/sammati/vectors"
LOG_SEED = b"sammati log vectors, fixed seed."
WITNESS = "witness.example/vectors"
WITNESS_SEED = b"sammati witness, a fixed seed..."
TIME = 1795305600


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def b64(data):
    return base64.b64encode(data).decode()


# RFC 8032 §5.1, as its §6 has it: slow, and plain.
P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(n, point):
    result = (0, 1, 1, 0)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    return (P - x if x & 1 else x, y, 1, (P - x if x & 1 else x) * y % P)


BASE = base_point()


def compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def expand(seed):
    h = hashlib.sha512(seed).digest()
    a = int.from_bytes(h[:32], "little") & (1 << 254) - 8 | 1 << 254
    return a, h[32:]


def public_key(seed):
    return compress(multiply(expand(seed)[0], BASE))


def sign(seed, message):
    a, prefix = expand(seed)
    public = public_key(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % Q
    point = compress(multiply(r, BASE))
    k = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little") % Q
    return point + ((r + k * a) % Q).to_bytes(32, "little")


# RFC 6962 §2.1: MTH, PATH and PROOF as they are written.
def leaf(n):
    return f"leaf {n} of the vectors".encode()


def split(n):
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(d):
    if not d:
        return sha()
    if len(d) == 1:
        return sha(b"\x00", d[0])
    k = split(len(d))
    return sha(b"\x01", mth(d[:k]), mth(d[k:]))


def path(m, d):
    if len(d) == 1:
        return []
    k = split(len(d))
    return path(m, d[:k]) + [mth(d[k:])] if m < k else path(m - k, d[k:]) + [mth(d[:k])]


def subproof(m, d, whole):
    if m == len(d):
        return [] if whole else [mth(d)]
    k = split(len(d))
    if m <= k:
        return subproof(m, d[:k], whole) + [mth(d[k:])]
    return subproof(m - k, d[k:], False) + [mth(d[:k])]


# C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-witness.
def key_id(name, kind, public):
    return sha(name.encode(), b"\n", kind, public)[:4]


def vkey(name, kind, seed):
    public = public_key(seed)
    return f"{name}+{key_id(name, kind, public).hex()}+{b64(kind + public)}\n"


def body(size):
    return f"{ORIGIN}\n{size}\n{b64(mth(LEAVES[:size]))}\n"


def note(size):
    text = body(size)
    signature = key_id(ORIGIN, b"\x01", public_key(LOG_SEED)) + sign(LOG_SEED, text.encode())
    return f"{text}\n\u2014 {ORIGIN} {b64(signature)}\n"


def cosignature(size):
    message = f"cosignature/v1\ntime {TIME}\n{body(size)}".encode()
    signature = TIME.to_bytes(8, "big") + sign(WITNESS_SEED, message)
    return f"\u2014 {WITNESS} {b64(key_id(WITNESS, bytes([4]), public_key(WITNESS_SEED)) + signature)}\n"


def lines(hashes):
    return "".join(b64(h) + "\n" for h in hashes)


LEAVES = [leaf(n) for n in range(1000)]


def main():
    folder = pathlib.Path(sys.argv[1])
    growth = lines(subproof(300, LEAVES, True))
    proof = f"c2sp.org/tlog-proof@v1\nindex 777\n{lines(path(777, LEAVES))}\n"
    files = {
        "log.vkey": vkey(ORIGIN, b"\x01", LOG_SEED),
        "witness.vkey": vkey(WITNESS, b"\x04", WITNESS_SEED),
        "checkpoint-300.note": note(300),
        "checkpoint-1000.note": note(1000),
        "checkpoint-1000.cosigned.note": note(1000) + cosignature(1000),
        "checkpoint-1000.cosignature": cosignature(1000),
        "300-to-1000.consistency": growth,
        "300-to-1000.add-checkpoint": f"old 300\n{growth}\n{note(1000)}",
        "leaf-777.bin": LEAVES[777].decode(),
        "leaf-777.tlog-proof": proof + note(1000),
        "leaf-777.cosigned.tlog-proof": proof + note(1000) + cosignature(1000),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
