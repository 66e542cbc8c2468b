"""What the benchmarks share: smtp-source, smtp-sink, and the relays between them. Everything stays on 127.0.0.1."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
RELEASE = os.path.join(TOP, "target/release")
os.environ["PATH"] += ":/usr/sbin:/sbin"


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(type=kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, patience=60, pause=0.005):
    end = time.time() + patience
    while not condition():
        if time.time() > end:
            sys.exit(f"waited {patience} s in vain: {what}")
        time.sleep(pause)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
        return True
    except OSError:
        return False


def greets(port):
    """It takes mail: a socket may be bound long before."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as s:
            return s.recv(3) == b"220"
    except OSError:
        return False


def directory(kind):
    """On the disk that the build is on, not in a tmpfs."""
    made = tempfile.mkdtemp(prefix=f"relayd-{kind}-", dir=os.path.join(TOP, "target"))
    os.chmod(made, 0o755)
    return made


class Sink:
    """smtp-sink -c, its running count read from its output. `refused`: a command that gets a 450."""

    def __init__(self, port=None, refused=None):
        self.port, self.count, self.last = port or free_port(), 0, 0.0
        refuse = ["-r", refused] if refused else []
        self.process = subprocess.Popen(
            ["smtp-sink", "-4", "-c", "-u", "nobody", *refuse, f"127.0.0.1:{self.port}", "1000"],
            stdout=subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()
        wait_for("smtp-sink listens", lambda: listens(self.port))

    def read(self):
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            for found in re.finditer(rb"mesg=(\d+)", chunk):
                self.count = int(found[1])
                self.last = time.time()

    def end(self):
        self.process.terminate()
        self.process.wait()


def source(port, messages, size, sessions, reuse):
    """Runs smtp-source, each message to a recipient of its own; returns its seconds."""
    command = ["smtp-source", "-N", "-s", str(sessions), "-m", str(messages), "-l", str(size),
               "-f", "a@x.test", "-t", "b@y.test"] + (["-d"] if reuse else []) + [f"127.0.0.1:{port}"]
    start = time.time()
    subprocess.run(command, check=True, timeout=600)
    return time.time() - start


def memory(pid):
    """(resident, highest resident) in MiB."""
    with open(f"/proc/{pid}/status") as file:
        status = file.read()
    return tuple(int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1024 for key in ("VmRSS", "VmHWM"))


def tree(pid):
    """The process and all below it: (CPU seconds with those that have ended, resident MiB)."""
    rows = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        times = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        rows[int(name)] = (int(fields[1]), times, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    cpu = resident = 0.0
    for one in rows:
        above = one
        while above in rows and above != pid:
            above = rows[above][0]
        if above == pid:
            cpu, resident = cpu + rows[one][1], resident + rows[one][2]
    return cpu, resident


class Relayd:
    """relayd with its state on disk in a directory of its own; one route, to the sink."""

    name = "relayd"

    def __init__(self, sink, program=None, settings="", route=True, dkim=False):
        self.program = program or f"{RELEASE}/relayd"
        self.dir, self.port, self.process = directory("bench"), free_port(), None
        self.socket = f"{self.dir}/relayd.sock"
        route = f'[[route]]\nto = ["*"]\nvia = ["127.0.0.1:{sink.port}"]\n' if route else ""
        if dkim:
            key = f"{self.dir}/key.pem"
            subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key],
                           check=True, stderr=subprocess.DEVNULL)
            settings += f'[[dkim]]\ndomain = "x.test"\nselector = "s"\nkey = "{key}"\n'
        with open(f"{self.dir}/relayd.toml", "w") as file:
            file.write(
                f'hostname = "relay.test"\n[state]\ndir = "{self.dir}/state"\n'
                f'[[listener]]\naddress = "127.0.0.1:{self.port}"\ntrusted = ["127.0.0.0/8"]\n{route}'
                f'[admin]\nsocket = "{self.socket}"\n[log]\nformat = "json"\n{settings}')

    def start(self):
        """Returns at once; tells when it was begun."""
        if os.path.exists(self.socket):
            os.remove(self.socket)
        begun = time.time()
        with open(f"{self.dir}/log", "a") as log:
            self.process = subprocess.Popen([self.program, "--config", f"{self.dir}/relayd.toml"], stderr=log)
        return begun

    def until_ready(self):
        wait_for("relayd greets", lambda: self.process.poll() is not None or greets(self.port))
        if self.process.poll() is not None:
            sys.exit(f"relayd has ended: {open(f'{self.dir}/log').read()[-2000:]}")

    def ctl(self, *command):
        return subprocess.run([f"{RELEASE}/relayctl", "--socket", self.socket, *command],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def flush(self):
        """Once it takes orders."""
        wait_for("relayd takes orders", lambda: self.ctl("queue", "flush").returncode == 0, pause=0.02)

    def deferred(self):
        found = re.search(r'"deferred":\s*(\d+)', self.ctl("status", "--json").stdout)
        return int(found[1]) if found else 0

    def usage(self):
        return tree(self.process.pid)[0], memory(self.process.pid)[1]

    def resident(self):
        return memory(self.process.pid)[0]

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait()

    def end(self):
        self.stop()
        shutil.rmtree(self.dir)


class Postfix:
    """Debian's Postfix with the settings it has by itself, but with its queue and log in a directory of its own, no chroot, and no name
    asked for the client's address. Needs root, as Postfix does."""

    name = "postfix"

    def __init__(self, sink):
        self.dir, self.port, self.process, self.peak = directory("postfix"), free_port(), None, 0.0
        conf = f"{self.dir}/conf"
        os.mkdir(conf)
        for made in ("queue", "data"):
            os.mkdir(f"{self.dir}/{made}")
        shutil.chown(f"{self.dir}/data", "postfix")
        with open(f"{conf}/main.cf", "w") as file:
            file.write("".join(f"{key} = {value}\n" for key, value in {
                "compatibility_level": "3.6", "queue_directory": f"{self.dir}/queue",
                "data_directory": f"{self.dir}/data", "maillog_file": f"{self.dir}/log",
                "maillog_file_prefixes": self.dir, "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
                "myhostname": "relay.test", "mydestination": "", "mynetworks": "127.0.0.0/8", "alias_maps": "",
                "alias_database": "", "smtpd_peername_lookup": "no",
                "relayhost": f"[127.0.0.1]:{sink.port}"}.items()))
        with open("/etc/postfix/master.cf") as file:
            services = re.sub(r"(?m)^smtp( +)inet", rf"127.0.0.1:{self.port}\1inet", file.read(), count=1)
        with open(f"{conf}/master.cf", "w") as file:
            # The fifth column is chroot.
            file.write(re.sub(r"(?m)^(\S+\s+(?:inet|unix|fifo|pass|unix-dgram)\s+\S+\s+\S+\s+)y", r"\1n", services))
        for copied in ("dynamicmaps.cf", "postfix-files"):
            if os.path.exists(f"/etc/postfix/{copied}"):
                shutil.copy(f"/etc/postfix/{copied}", conf)
        self.conf = conf

    def start(self):
        begun = time.time()
        self.process = subprocess.Popen(["postfix", "-c", self.conf, "start-fg"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return begun

    def until_ready(self):
        wait_for("postfix greets", lambda: greets(self.port))
        threading.Thread(target=self.watch, args=[self.process], daemon=True).start()

    def watch(self, process):
        while process.poll() is None:
            self.peak = max(self.peak, tree(process.pid)[1])
            time.sleep(0.3)

    def flush(self):
        subprocess.run(["postqueue", "-c", self.conf, "-f"], check=True)

    def deferred(self):
        queue = f"{self.dir}/queue"
        if any(files for kind in ("incoming", "active", "maildrop") for _, _, files in os.walk(f"{queue}/{kind}")):
            return 0
        return sum(len(files) for _, _, files in os.walk(f"{queue}/deferred"))

    def usage(self):
        return tree(self.process.pid)[0], self.peak

    def resident(self):
        return tree(self.process.pid)[1]

    def stop(self):
        subprocess.run(["postfix", "-c", self.conf, "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if self.process:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                sys.exit(f"postfix does not stop: {self.dir}/log")

    def end(self):
        self.stop()
        shutil.rmtree(self.dir)
