"""What the scripts of this folder share: a running Meridian, questions by UDP, certificates, figures of /proc. Loopback only."""
import atexit, http.client, json, os, random, shutil, socket, struct, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build():
    """Builds the program as it is delivered, unless MERIDIAN names one; its path."""
    given = os.environ.get("MERIDIAN")
    if given:
        return given
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], cwd=ROOT, check=True, capture_output=True)
    return os.path.join(json.loads(metadata.stdout)["target_directory"], "release", "meridian")


def folder():
    """A folder that is gone at the end."""
    path = tempfile.mkdtemp(prefix="meridian-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.mkdir(f"{path}/zones")
    return path


def certificate(path):
    """An authority and a certificate of it for dns.example.net: ca.crt, dns.crt, dns.key."""
    subprocess.run([f"{ROOT}/scripts/test-certificate.sh", "dns.example.net", path], check=True, stdout=subprocess.DEVNULL)


class Meridian:
    """The program, run on a folder's meridian.toml."""

    def __init__(self, program, path, prefix=(), open_files=None):
        limit = (lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_NOFILE, (open_files, open_files))) if open_files else None
        command = [*prefix, program, "run", "--config", f"{path}/meridian.toml"]
        self.process = subprocess.Popen(command, cwd=path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=limit)
        atexit.register(self.process.kill)
        self.log, self.path = [], path
        line = ""
        while "serving DNS on" not in line:
            line = self.process.stderr.readline()
            if not line:
                sys.exit("".join(self.log))
            self.log.append(line)
        word = lambda after: line.split(after)[1].strip().split(",")[0].split()[0].rstrip(",")
        address = lambda text: (text.rsplit(":", 1)[0], int(text.rsplit(":", 1)[1]))
        self.dns, self.admin = address(word("serving DNS on")), address(word("admin on"))
        threading.Thread(target=self.listen, daemon=True).start()
        self.token = open(f"{path}/state/admin.token").read().strip()

    def listen(self):
        for line in self.process.stderr:
            self.log.append(line)
            del self.log[:-2000]

    @property
    def pid(self):
        return self.process.pid

    def call(self, method, path, body=None):
        """Status and JSON."""
        connection = http.client.HTTPConnection(*self.admin, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"authorization": f"Bearer {self.token}", "content-type": "application/json"})
            reply = connection.getresponse()
            octets = reply.read()
            return reply.status, (json.loads(octets) if octets[:1] in (b"{", b"[") else octets.decode())
        finally:
            connection.close()

    def get(self, path):
        status, body = self.call("GET", path)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {body}")
        return body

    def audit(self, after=0):
        """Entries of the audit log behind that sequence, oldest first, up to a thousand."""
        page = self.get("/v1/audit?order=oldest&limit=1000" + (f"&cursor={after}" if after else ""))
        return page["entries"]

    def metric(self, name):
        """A histogram's bounds with how many were at most that, or the value of one without labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(name)]
        buckets = [(line.split('le="')[1].split('"')[0], float(line.split()[-1])) for line in lines if 'le="' in line]
        return buckets or float(lines[0].split()[-1])

    def resident(self):
        return figure(self.pid, "VmRSS") * 1024

    def own(self):
        """Memory of its own: without pages of the program's file, which come as its code is used."""
        return figure(self.pid, "RssAnon") * 1024

    def processor(self):
        return processor(self.pid)

    def files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def figure(pid, word):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith(word + ":")).split()[1])


def processor(pid):
    """Seconds that the process has had."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def question(name, rtype=1, number=None):
    number = random.randrange(65536) if number is None else number
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack("!HHHHHH", number, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", rtype, 1)


def answer(packet):
    """Number, response code and IPv4 addresses of a reply to one of our questions. Our owners are compressed or written out; both are skipped."""
    number, flags, questions, answers = struct.unpack("!HHHH", packet[:8])
    at, found = 12, []

    def skip(at):
        while packet[at]:
            if packet[at] >= 192:
                return at + 2
            at += packet[at] + 1
        return at + 1
    for _ in range(questions):
        at = skip(at) + 4
    for _ in range(answers):
        at = skip(at)
        rtype, _, _, length = struct.unpack("!HHIH", packet[at:at + 10])
        if rtype == 1:
            found.append(socket.inet_ntoa(packet[at + 10:at + 14]))
        at += 10 + length
    return number, flags & 15, found


def share(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]
