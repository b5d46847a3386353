/* SPDX-License-Identifier: MIT */

#include "daemon/handover.h"

#include <sys/socket.h>

union control_message {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr aligned;
};

static void attach(struct msghdr *message, union control_message *control, int fd)
{
	control->aligned = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(fd))};
	memcpy(CMSG_DATA(&control->aligned), &fd, sizeof(fd));
	message->msg_control = control;
	message->msg_controllen = sizeof(*control);
}

int handover_send(int socket, enum handover what, int fd)
{
	uint8_t byte = (uint8_t)what;
	union control_message control = {0};
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd >= 0)
		attach(&message, &control, fd);
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

int handover_receive(int socket, int *ret_fd)
{
	uint8_t byte = 0;
	union control_message control = {0};
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	/* room for one descriptor: the kernel closes what is more */
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	if (n == 0)
		return 0;
	if (message.msg_controllen > 0 && control.aligned.cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(&control.aligned), sizeof(int));
	return byte;
}

int handover_hear(int socket)
{
	uint8_t byte = 0;
	ssize_t n = recv(socket, &byte, 1, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	return n == 0 ? 0 : byte;
}
