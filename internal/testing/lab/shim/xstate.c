/*
 * Preloaded into User Mode Linux, which writes a process's extended registers
 * from a buffer of its own whose size was fixed before AMX: the host takes the
 * whole state or nothing (EFAULT), and the guest dies of it at its first process.
 *
 * A write of a part becomes a write of the whole: what the process has, and the
 * part over it.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Not on the stack: the guest kernel calls from its own, which are small. One
 * thread of User Mode Linux does all of this. */
static unsigned char whole[1 << 16] __attribute__((aligned(64)));

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);

	struct iovec state = { whole, sizeof whole };
	if (request == PTRACE_SETREGSET && addr == (void *)NT_X86_XSTATE) {
		const struct iovec *part = data;
		if (!syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &state) && part->iov_len < state.iov_len) {
			memcpy(whole, part->iov_base, part->iov_len);
			data = &state;
		}
	}
	/* The system call hands what is peeked back through data, the library's function as its result. */
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		long word;
		errno = 0;
		return syscall(SYS_ptrace, request, pid, addr, &word) < 0 ? -1 : word;
	}
	return syscall(SYS_ptrace, request, pid, addr, data);
}
