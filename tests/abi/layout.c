/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Prints the ABI as a C or C++ compiler has it, in the form of tests/host/src/bin/abi-layout.rs. Nothing here is a list of
 * its own: run.sh makes abi-list.inc from the header, so that what the header has beyond the Rust side shows as well.
 *
 *	STRUCT(name)		FIELD(structure, field)
 *	REQUEST(name)		CONSTANT(name)
 */

#include <nettap.h>
/* Included twice on purpose: the guard must hold. */
#include <nettap.h>
#include <stdio.h>

#define STRUCT(name) printf("struct %s %u\n", #name, (unsigned)sizeof(struct name));
#define FIELD(name, field)                                                                   \
	printf("field %s.%s %u %u\n", #name, #field, (unsigned)offsetof(struct name, field), \
	       (unsigned)sizeof(((struct name *)0)->field));
#define REQUEST(name) printf("ioctl %s 0x%lx\n", #name, (unsigned long)(name));
#define CONSTANT(name) printf("const %s %lu\n", #name, (unsigned long)(name));

int main(void)
{
#include "abi-list.inc"
	return 0;
}
