; One fiber of libc for each thread of a CUDA block: a barrier goes back to the scheduler, which resumes the next thread.
; The kernel is called by @kernel_from(ptr arguments), which native.py writes.
@thread_index = global [3 x i32] zeroinitializer
@block_index = global [3 x i32] zeroinitializer
@block_size = global [3 x i32] zeroinitializer
@grid_size = global [3 x i32] zeroinitializer
@arguments = global ptr null
@current = global ptr null
@ended = global i32 0
@scheduler = global [1024 x i8] zeroinitializer, align 16

declare i32 @swapcontext(ptr, ptr)

define void @barrier() {
  %fiber = load ptr, ptr @current
  %r = call i32 @swapcontext(ptr %fiber, ptr @scheduler)
  ret void
}

define void @fiber() {
  %a = load volatile ptr, ptr @arguments
  call void @kernel_from(ptr %a)
  store volatile i32 1, ptr @ended
  ret void
}

; Run one thread to its next barrier; 1: it has ended.
define i32 @resume(ptr %fiber, i32 %x, i32 %y, i32 %z) {
  store volatile i32 0, ptr @ended
  store ptr %fiber, ptr @current
  store i32 %x, ptr @thread_index
  %py = getelementptr i32, ptr @thread_index, i64 1
  store i32 %y, ptr %py
  %pz = getelementptr i32, ptr @thread_index, i64 2
  store i32 %z, ptr %pz
  %r = call i32 @swapcontext(ptr @scheduler, ptr %fiber)
  %e = load volatile i32, ptr @ended
  ret i32 %e
}

; Run every thread of a block that has not ended to its next barrier; returns how many have ended by that.
define i32 @sweep(ptr %fibers, i64 %pitch, ptr %done, i32 %bx, i32 %by, i32 %bz) {
entry:
  %plane = mul i32 %bx, %by
  %count = mul i32 %plane, %bz
  br label %loop
loop:
  %t = phi i32 [0, %entry], [%t1, %next]
  %sum = phi i32 [0, %entry], [%sum1, %next]
  %t64 = zext i32 %t to i64
  %flag = getelementptr i8, ptr %done, i64 %t64
  %d = load i8, ptr %flag
  %over = icmp ne i8 %d, 0
  br i1 %over, label %next, label %go
go:
  %x = urem i32 %t, %bx
  %yz = udiv i32 %t, %bx
  %y = urem i32 %yz, %by
  %z = udiv i32 %yz, %by
  %offset = mul i64 %t64, %pitch
  %fiber = getelementptr i8, ptr %fibers, i64 %offset
  %r = call i32 @resume(ptr %fiber, i32 %x, i32 %y, i32 %z)
  %r8 = trunc i32 %r to i8
  store i8 %r8, ptr %flag
  br label %next
next:
  %more = phi i32 [0, %loop], [%r, %go]
  %sum1 = add i32 %sum, %more
  %t1 = add i32 %t, 1
  %again = icmp ult i32 %t1, %count
  br i1 %again, label %loop, label %exit
exit:
  ret i32 %sum1
}
