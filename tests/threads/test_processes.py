"""The thread pool beside signals and forks, at exit, and without the compiler."""

from __future__ import annotations

import os

import pytest

from tests.threads.pool import LINUX, needs_fork, python


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("threads", [1, 4])
def test_interrupt_is_quick_and_nothing_writes_later(threads):
    out = python(
        f"""
        def slow(g, io, scratch, lo, hi):
            time.sleep(0.05 * (hi - lo))
            io[lo:hi] += 1

        out = np.zeros(1000, np.int64)
        sent = []
        def interrupt():
            time.sleep(0.4)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        pool.set_num_threads({threads})
        try:
            pool.run(slow, None, out, 1000, 64, 50.0)
        except KeyboardInterrupt:
            late = time.monotonic() - sent[0]
            before = out.copy()
            time.sleep(0.3)
            assert (out == before).all() and 0 < out.sum() < 1000
            assert late < 0.5, late
            check({threads})
            print("interrupted")
        """
    )
    assert out == "interrupted"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_many_interrupts_never_leave_a_helper_running():
    out = python(
        """
        running, violations, interrupts = [], 0, 0
        def slow(g, io, scratch, lo, hi):
            running.append(lo)
            try:
                time.sleep(0.002)
            finally:
                running.pop()

        signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0031)
        armed = False
        def on_alarm(*_):
            if armed:
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, on_alarm)
        pool.set_num_threads(4)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                armed = True
                pool.run(slow, None, None, 60, 64, 0.01)
                armed = False
            except KeyboardInterrupt:
                armed = False
                interrupts += 1
            violations += bool(running)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert interrupts > 50, interrupts
        assert violations == 0, violations
        check()
        print("ok")
        """
    )
    assert out == "ok"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_one_thread_starts_none_and_idle_helpers_sleep():
    out = python(
        """
        before = len(os.listdir("/proc/self/task"))
        check(1)
        assert len(os.listdir("/proc/self/task")) == before
        check(4)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.02
        print(len([t for t in threading.enumerate() if t.name.startswith("fastconv")]))
        """
    )
    assert out == "3"


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use_and_while_another_thread_computes():
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        def child():
            pid = os.fork()
            if pid:
                return pid
            signal.alarm(10)
            status = 1
            try:
                assert pool._pool.workers == 0
                check(4)
                status = 0
            finally:
                os._exit(status)

        check(4)
        children = [child()]
        stop = []
        def compute():
            while not stop:
                check(4)
        user = threading.Thread(target=compute)
        user.start()
        for _ in range(10):
            children.append(child())
            time.sleep(0.003)
        stop.append(1)
        user.join()
        check(4)
        print([os.waitpid(pid, 0)[1] for pid in children])
        """
    )
    assert out == str([0] * 11)


@needs_fork
def test_fork_inside_a_task_does_not_hang():
    out = python(
        """
        import warnings
        warnings.simplefilter("ignore")
        parent, children = os.getpid(), []
        def kernel(g, io, scratch, lo, hi):
            time.sleep(0.002)
            if threading.current_thread() is threading.main_thread() and os.getpid() == parent and not children:
                pid = os.fork()
                if pid:
                    children.append(pid)
                else:
                    signal.alarm(10)
        pool.set_num_threads(4)
        pool.run(kernel, None, None, 40, 0, 0.05)
        if os.getpid() != parent:
            check(4)
            os._exit(0)
        print(os.waitpid(children[0], 0)[1])
        """
    )
    assert out == "0"


def test_use_at_exit_and_in_a_finalizer():
    out = python(
        """
        import atexit
        class Last:
            def __del__(self):
                check(4)
                print("finalizer")
        def last():
            check(4)
            print("atexit")
        atexit.register(last)
        check(4)
        keep = Last()
        daemon = threading.Thread(target=lambda: [check(3) for _ in iter(int, 1)], daemon=True)
        daemon.start()
        time.sleep(0.05)
        """
    )
    assert out.splitlines()[0] == "atexit"


def test_first_use_at_exit():
    out = python("import atexit; atexit.register(lambda: (check(4), print('done')))")
    assert out == "done"


def test_import_needs_no_numba():
    assert python("print('numba' in sys.modules)") == "False"
