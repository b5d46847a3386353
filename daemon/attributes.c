/* SPDX-License-Identifier: MIT */

/*
 * A process that may only read a directory of its own user can still open it to the world with chmod(2), and let others
 * write. So these calls are refused by number, with seccomp(2). A number means something only within an ABI: whatever
 * comes by another one (int 0x80, x32) is refused as a whole.
 */

#include "daemon/attributes.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#if defined(__x86_64__) && !defined(__ILP32__)
#define OWN_ABI AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__LP64__)
#define OWN_ABI AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define OWN_ABI AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define OWN_ABI AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define OWN_ABI AUDIT_ARCH_S390X
#else
#define OWN_ABI 0u /* not tried */
#endif

#define FIRST_OF_X32 0x40000000u
#define FCHMODAT2                                                                                  \
	452 /* Linux 6.6; what is later than Debian 12's header has one number everywhere */
#define SETXATTRAT    463 /* 6.13 */
#define REMOVEXATTRAT 466
#define FILE_SETATTR  469 /* 6.17 */

static const uint32_t REFUSED[] = {
#ifdef SYS_chmod
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
	SYS_utime,
	SYS_utimes,
	SYS_futimesat,
#endif
	SYS_fchmod,
	SYS_fchmodat,
	FCHMODAT2,
	SYS_fchown,
	SYS_fchownat,
	SYS_utimensat,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_fsetxattr,
	SETXATTRAT,
	SYS_removexattr,
	SYS_lremovexattr,
	SYS_fremovexattr,
	REMOVEXATTRAT,
	FILE_SETATTR,
};

/* Loads and compares: at the start the ABI and x32, at the end the two answers. */
#define HEAD   5
#define TAIL   2
#define REFUSE (SECCOMP_RET_ERRNO | EPERM)

int attributes_freeze(void)
{
	struct sock_filter code[HEAD + ELEMENTSOF(REFUSED) + TAIL] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ABI, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, REFUSE),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST_OF_X32, ELEMENTSOF(REFUSED) + 1, 0),
	};
	const struct sock_fprog program = {.len = ELEMENTSOF(code), .filter = code};
	struct sock_filter *end = code + HEAD + ELEMENTSOF(REFUSED);

	if (OWN_ABI == 0)
		return 0;
	for (size_t i = 0; i < ELEMENTSOF(REFUSED); i++)
		code[HEAD + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REFUSED[i],
			(uint8_t)(ELEMENTSOF(REFUSED) - i), 0);
	end[0] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	end[1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, REFUSE);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0u, &program) < 0)
		return errno == ENOSYS || errno == EINVAL || errno == EPERM ? 0 : -errno;
	return 1;
}
