/*
 * Writes a part of a stopped process's extended registers, as User Mode Linux
 * does. Exit status: 0 the registers are as they were, 1 the write was refused,
 * 2 they are not as they were, 3 something else went wrong.
 */
#include <elf.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char before[1 << 16] __attribute__((aligned(64))), after[1 << 16] __attribute__((aligned(64)));

int main(void)
{
	struct iovec all = { before, sizeof before }, part = { before, 512 + 64 }, again = { after, sizeof after };
	pid_t pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, 0, 0) != pid || ptrace(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &all))
		return 3;
	long refused = ptrace(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &part);
	long lost = ptrace(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &again);
	kill(pid, SIGKILL);
	waitpid(pid, 0, 0);
	if (refused || lost)
		return refused ? 1 : 3;
	return all.iov_len == again.iov_len && !memcmp(before, after, all.iov_len) ? 0 : 2;
}
